"""The command line of the room: `nonet recsys VERB`. It parses options, calls the API and prints; no more.

`train` and `up` are in `cli_run`, `snapshot` and `restore` in `cli_snapshot`, `simulate` and `doctor` in `cli_study`,
`bench` in `cli_bench`, shared options in `cli_options`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nonet.recsys import cli_bench, cli_run, cli_snapshot, cli_study
from nonet.recsys import cli_options as options

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help, as of `nonet` itself: what draws boxes takes a tenth of a second to import
    help="Recommendations that learn within seconds: collisionless embeddings, online training, minute-level sync.",
    epilog="""\b
Start with rows of your own:
  nonet recsys init movies --data ratings.csv
  nonet recsys train --data ratings.csv --job movies/job.yaml -o movies/snapshots
  nonet recsys up movies/job.yaml""",
)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the job.")],
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows that the job shall fit: ratings, clicks.")
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            metavar="deepfm|dlrm|fm|lr", help="The model; fm: factorisation machine, lr: logistic regression."
        ),
    ] = "deepfm",
    kind: options.Format = None,
    label: options.Label = None,
    timestamp: Annotated[str | None, typer.Option(metavar="COLUMN", help="Unix time, of a table of your own.")] = None,
    feature: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="An id, of a table of your own; give each.")
    ] = None,
    dense: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A number, of a table of your own; give each.")
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="FEATURE", help="Who asks. [default: user]")] = None,
    item: Annotated[str | None, typer.Option(metavar="FEATURE", help="What is shown. [default: by the format]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Write features.yaml and job.yaml, with comments that teach.

    With --data, the files fit its columns. MovieLens, Criteo, Avazu, Open Bandit and Taobao are told by their columns;
    any other table needs --feature (each), --label and --timestamp.

    \b
    Examples:
      nonet recsys init shop
      nonet recsys init movies --data ratings.csv --label 'rating >= 4'
      nonet recsys init shop --data rows.csv --label 'paid > 0' \\
          --timestamp at --feature user --feature shop
    """
    from nonet.common.console import note
    from nonet.recsys.running.starting import Columns, columns_of, write_job

    options.start(quiet)
    columns = Columns()
    if data is not None:
        columns = columns_of(
            data,
            kind=kind,
            label=label,
            timestamp=timestamp,
            features=feature or (),
            dense=dense or (),
            user=user,
            item=item,
        )
    for path in write_job(folder, columns, preset, force=force):
        print(path)
    if data is not None and columns.user is None:
        note("no feature is the user: the job trains and simulates; name one with --user to serve")


cli_run.register(app)
cli_snapshot.register(app)
cli_study.register(app)
cli_bench.register(app)
