"""A program written for Drain3, with one import changed."""

import tempfile
from pathlib import Path

# from drain3 import TemplateMiner
# from drain3.file_persistence import FilePersistence
# from drain3.masking import MaskingInstruction
# from drain3.template_miner_config import TemplateMinerConfig
from nonet.logs.drain3 import FilePersistence, MaskingInstruction, TemplateMiner, TemplateMinerConfig

config = TemplateMinerConfig()
config.masking_instructions = [MaskingInstruction(r"blk_-?\d+", "BLOCK")]

with tempfile.TemporaryDirectory() as folder:
    persistence = FilePersistence(Path(folder) / "drain3_state.bin")
    template_miner = TemplateMiner(persistence, config)
    for line in (
        "Received block blk_-162 of size 67108864 from 10.250.19.102",
        "Received block blk_9073 of size 91178 from 10.250.14.224",
        "Verification succeeded for blk_9073",
    ):
        result = template_miner.add_log_message(line)
        print(result["change_type"], result["cluster_id"], result["cluster_size"], result["template_mined"])
        for parameter in template_miner.extract_parameters(result["template_mined"], line) or ():
            print("   ", parameter.mask_name, parameter.value)
    template_miner.save_state("the example ends")

    restarted = TemplateMiner(persistence, config)

cluster = restarted.match("Verification succeeded for blk_17")
print("matched:", cluster.get_template() if cluster else None)
print("matched:", restarted.match("something else"))
