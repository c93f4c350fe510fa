"""From measured lines to a table with verdicts, to Markdown, and to plots."""
import dataclasses
import pathlib
import shutil
import statistics
import subprocess


@dataclasses.dataclass
class Spread:
    """Several figures of one kind."""

    values: list

    @property
    def median(self):
        return statistics.median(self.values)

    def text(self, form="{:.2f}", unit=""):
        shown = form.format(self.median) + unit
        if len(self.values) > 1:
            shown += f" ({form.format(min(self.values))}–{form.format(max(self.values))})"
        return shown


@dataclasses.dataclass
class Line:
    """One line of the table; `met` is None for what is only measured."""

    group: str
    what: str
    figure: str
    goal: str = ""
    met: bool | None = None
    beside: str = ""
    data: dict = dataclasses.field(default_factory=dict)

    @property
    def verdict(self):
        return {None: "measured", True: "ok", False: "MISSED"}[self.met]


def at_most(limit, value):
    return value <= limit


def table(lines):
    rows = [("what", "figure", "goal", "verdict", "beside it")]
    rows += [(line.what, line.figure, line.goal, line.verdict, line.beside) for line in lines]
    out = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    out += ["| " + " | ".join(cell or "–" for cell in row) + " |" for row in rows[1:]]
    return "\n".join(out) + "\n"


def plain(lines):
    """The same for a terminal."""
    out = []
    for line in lines:
        out.append(f"{line.verdict:8} {line.what}: {line.figure}" + (f"  [goal {line.goal}]" if line.goal else ""))
        if line.beside:
            out.append(f"{'':9}{line.beside}")
    return "\n".join(out)


def plot(folder, name, title, x_label, y_label, series, log_x=False):
    """Draws {label: [(x, y, low, high)]} as folder/name.svg with gnuplot; returns its name, or None without gnuplot."""
    if not shutil.which("gnuplot") or not any(series.values()):
        return None
    path = pathlib.Path(folder) / f"{name}.svg"
    script = [
        "set terminal svg size 720,400 font 'sans,12' background rgb 'white'",
        f"set output '{path}'",
        f"set title '{title}'",
        f"set xlabel '{x_label}'",
        f"set ylabel '{y_label}'",
        "set yrange [0:*]",
        "set grid",
        "set key outside right",
    ]
    if log_x:
        ticks = sorted({point[0] for points in series.values() for point in points})
        script.append("set logscale x")
        script.append("set xtics (" + ", ".join(f"'{tick:,}' {tick}" for tick in ticks) + ")")
    script.append(
        "plot "
        + ", ".join(
            f"'-' using 1:2:3:4 with yerrorlines lw 2 pt 7 ps 0.6 title '{label}'" for label in series
        )
    )
    for points in series.values():
        script += [" ".join(map(str, point)) for point in points] + ["e"]
    subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True, check=True)
    return path.name
