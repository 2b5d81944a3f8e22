"""What is new, gone or more frequent: yesterday against today, and before against after a time."""

from pathlib import Path

from nonet.logs.views.diff import DiffReport, diff

HERE = Path(__file__).parent


def show(report: DiffReport) -> None:
    """The changes, and how many templates did not change."""
    for row in report.rows:
        print(f"  {row.change:5}{row.before:3} ->{row.after:3}  {row.typed_template}")
    print(f"  {report.num_same} templates as before")


print("monday, tuesday:")
show(diff(HERE / "monday.log", HERE / "tuesday.log"))

print("tuesday, before and from 08:20 on:")
show(diff(HERE / "tuesday.log", at="2026-11-24T08:20"))
