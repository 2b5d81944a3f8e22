"""Texts that tokenizers, templates and streams stumble over."""

TEXTS = [
    "In 1989 the  cat's 12345 tails\n\n <|im_start|>user",
    "  12  3 ½ ²x  \t\n tab",
    "naïve 日本語 😀 \u200d👩\u200d👩\u200d👧 e\u0301 \u0130",
    "\x00\x01 control \ufffd ",
    "it'S DON'T we'LL o'clock",
    "a" * 300,
    "<|endoftext|>x<|im_end",
    "   leading",
    "trailing   ",
    "\r\n\r\n a\u00a0b\u2003c",
    "١٢٣ ४५६ Ⅻ",
    "<h1>Hi</h1>\n\n\n\n<start_of_turn>user\nx<end_of_turn>",
    "\n \n  \n\t\t\t  a      b",
    "x\u3000y, z…",
    "",
    " ",
]
