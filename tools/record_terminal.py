"""Record the quickstart in a terminal of 100 columns as an animated picture, docs/images/recording.svg.

    pip install pyte
    python tools/record_terminal.py docs/images/recording.svg

The commands run for real in a temporary folder. Their output keeps its own timing, sped up, with pauses cut, and the
path of this checkout is shown as ~/red. The picture is animated by CSS alone, has a light and a dark form, and shows
its last screen where motion is unwanted.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import pyte

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("red check quickstart", "red train quickstart", "red report runs/quickstart-seed42")
COLUMNS, VIEW = 100, 30  # of the terminal, and of the lines in view
TALL = 1000  # lines of the emulated screen, so that it never scrolls: the picture scrolls instead
LENGTH = 24.0  # seconds that the output takes in the picture
START, PAUSE, READING, LAST = 1.5, 0.6, 2.5, 6.0  # seconds: starting, the longest pause, before a command, at the end
FRAME = 0.12  # seconds between two states of a line

CELL, LINE, MARGIN, BAR = 8.4, 18, 14, 30  # pixels
NAMED = {"brown": "yellow", "ff005f": "magenta", "5faf00": "green", "3a3a3a": "black"}  # pyte's -> of the picture
LIGHT = {
    "paper": "#ffffff", "bar": "#e9ecef", "default": "#24292f", "red": "#cf222e", "green": "#116329",
    "yellow": "#7d4e00", "blue": "#0550ae", "magenta": "#8250df", "cyan": "#1b6c8f", "white": "#57606a",
    "black": "#d0d7de",
}  # fmt: skip
DARK = {
    "paper": "#0d1117", "bar": "#21262d", "default": "#e6edf3", "red": "#ff7b72", "green": "#7ee787",
    "yellow": "#f2cc60", "blue": "#79c0ff", "magenta": "#d2a8ff", "cyan": "#76e3ea", "white": "#c9d1d9",
    "black": "#484f58",
}  # fmt: skip

Run = tuple[int, str, str, bool]  # column, text, colour, bold
Event = tuple[float, str]  # seconds since the one before, and the output


@dataclass
class Shown:
    """A state of a line of the screen, and the seconds of the picture in which it is there."""

    row: int
    runs: tuple[Run, ...]
    start: float
    end: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description="Record the quickstart as an animated picture.")
    parser.add_argument("file", type=Path, help="the SVG file to write")
    path = parser.parse_args().file
    with tempfile.TemporaryDirectory() as folder:
        outputs = [list(output_of(command, Path(folder))) for command in COMMANDS]
    outputs = [with_short_start(output) for output in outputs]
    speed = max(1.0, sum(gap for output in outputs for gap, _ in output) / LENGTH)
    lines, scrolls, length = film(list(events_of(outputs, speed)))
    path.write_text(picture(lines, scrolls, length), encoding="utf-8")
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {length:.0f} s, {speed:.1f} times as fast, {len(lines)} texts")


def output_of(command: str, folder: Path) -> Iterator[Event]:
    """Run a command of `red` in a pseudo-terminal and yield its output as it comes."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", VIEW, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "red_cli", *command.split()[1:]],
        cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    before = time.monotonic()
    left = b""
    while True:
        select.select([ours], [], [])
        try:
            left += os.read(ours, 1 << 16)
        except OSError:  # the terminal is closed
            break
        text = left.decode(errors="ignore")
        left = left[len(text.encode()) :]
        now = time.monotonic()
        yield now - before, text.replace(str(ROOT), "~/red")
        before = now
    os.close(ours)
    if process.wait():
        raise SystemExit(f"{command} failed: exit code {process.returncode}")


def with_short_start(output: Sequence[Event]) -> list[Event]:
    """The output without the time before its first line, in which libraries are imported and a spinner turns."""
    first = next((index for index, (_, text) in enumerate(output) if "\n" in text), 0)
    return [(0.0, "".join(text for _, text in output[: max(first - 1, 0)])), *output[max(first - 1, 0) :]]


def events_of(outputs: Sequence[Sequence[Event]], speed: float) -> Iterator[Event]:
    """The output of all commands, with a prompt before each, in the time of the picture."""
    for number, (command, output) in enumerate(zip(COMMANDS, outputs, strict=True)):
        yield READING if number else 0.0, f"\x1b[32m$\x1b[0m \x1b[1m{command}\x1b[0m\r\n"
        for index, (gap, text) in enumerate(output):
            yield (START if index <= 1 else min(gap / speed, PAUSE)), text
    yield READING, "\x1b[32m$\x1b[0m "


def film(events: Sequence[Event]) -> tuple[list[Shown], list[tuple[float, int]], float]:
    """Each state of each line; the times at which the picture scrolls and the lines above it; and its length."""
    screen = pyte.Screen(COLUMNS, TALL)
    stream = pyte.Stream(screen)
    now, drawn = 0.0, -FRAME
    current: dict[int, Shown] = {}
    lines: list[Shown] = []
    scrolls = [(0.0, 0)]
    for index, (gap, text) in enumerate(events):
        now += gap
        stream.feed(text)
        if now - drawn < FRAME and index + 1 < len(events) and events[index + 1][0] < FRAME:
            continue
        drawn = now
        for row in sorted(screen.dirty):
            runs = tuple(runs_of(screen.buffer[row]))
            before = current.get(row)
            if before is not None and before.runs == runs:
                continue
            if before is not None:
                before.end = now
                del current[row]
            if runs:
                current[row] = Shown(row, runs, now)
                lines.append(current[row])
        screen.dirty.clear()
        above = max(0, max([screen.cursor.y, *current]) + 1 - VIEW)
        if above > scrolls[-1][1]:
            scrolls.append((now, above))
    return [line for line in lines if line.end != line.start], scrolls, now + LAST


def runs_of(cells: dict[int, pyte.screens.Char]) -> Iterator[Run]:
    """The texts of one style in a line, without spaces at their ends."""
    start, text, style = 0, "", ("default", False)
    for column in range(COLUMNS + 1):
        cell = cells[column] if column < COLUMNS else None
        own = ("", False) if cell is None else (colour_of(cell.fg), cell.bold)
        if text and own != style:
            if text.strip():
                yield start + len(text) - len(text.lstrip()), text.strip(), *style
            text = ""
        if cell is not None:
            if not text:
                start, style = column, own
            text += cell.data


def colour_of(name: str) -> str:
    """The colour of the picture for one of pyte's."""
    plain = name.removeprefix("bright")
    plain = NAMED.get(plain, plain)
    return plain if plain in LIGHT else "default"


def picture(lines: Sequence[Shown], scrolls: Sequence[tuple[float, int]], length: float) -> str:
    """The lines as an animated SVG. Texts that come and go at the same times share an animation."""
    width, height = COLUMNS * CELL + 2 * MARGIN, VIEW * LINE + 2 * MARGIN + BAR
    names: dict[tuple[float, float | None], str] = {}
    texts = []
    for line in sorted(lines, key=lambda line: (line.start, line.row)):
        name = names.setdefault((line.start, line.end), f"a{len(names)}")
        gone = "" if line.end is None else " gone"
        texts.append(f'<text class="{name}{gone}" y="{line.row * LINE}">{"".join(map(span, line.runs))}</text>')
    frames = [
        f"@keyframes {name}{{0%{{visibility:hidden}}{share(start, length)}{{visibility:visible}}"
        + ("" if end is None else f"{share(end, length)}{{visibility:hidden}}")
        + f"}}.{name}{{animation-name:{name}}}"
        for (start, end), name in names.items()
    ]
    scroll = "".join(f"{share(at, length)}{{transform:translateY({-above * LINE}px)}}" for at, above in scrolls)
    colours = [
        f"@media (prefers-color-scheme:{scheme}){{svg{{{';'.join(f'--{n}:{v}' for n, v in palette.items())}}}}}"
        for scheme, palette in (("light", LIGHT), ("dark", DARK))
    ]
    style = "\n".join(
        [
            *colours,
            "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
            "fill:var(--default);white-space:pre}",
            f"#screen text,#roll{{animation-duration:{length:.2f}s;animation-timing-function:step-end;"
            "animation-iteration-count:infinite}",
            ".gone{visibility:hidden}.b{font-weight:bold}",
            *(f".{name}{{fill:var(--{name})}}" for name in LIGHT if name not in ("paper", "bar", "default")),
            f"@keyframes roll{{{scroll}}}#roll{{animation-name:roll;transform:translateY({-scrolls[-1][1] * LINE}px)}}",
            *frames,
            "@media (prefers-reduced-motion:reduce){#screen text,#roll{animation:none}}",
        ]
    )
    title = f"Terminal: {', '.join(COMMANDS)}"
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" \
height="{height:.0f}" role="img" aria-label="{escape(title)}">
<title>{escape(title)}</title>
<style>
{style}
</style>
<rect width="100%" height="100%" rx="8" fill="var(--paper)" stroke="var(--bar)"/>
<path d="M0 {BAR}V8a8 8 0 0 1 8-8H{width - 8:.0f}a8 8 0 0 1 8 8V{BAR}z" fill="var(--bar)"/>
<text x="{MARGIN}" y="20" class="white">red quickstart on a CPU, sped up</text>
<svg id="screen" x="{MARGIN}" y="{BAR + MARGIN}" width="{COLUMNS * CELL:.0f}" height="{VIEW * LINE}">
<g id="roll"><g transform="translate(0 13)">
{chr(10).join(texts)}
</g></g>
</svg>
</svg>
"""


def span(run: Run) -> str:
    """A text of one style, exactly as wide as its columns in any font."""
    column, text, colour, bold = run
    names = [*([] if colour == "default" else [colour]), *(["b"] if bold else [])]
    style = f' class="{" ".join(names)}"' if names else ""
    return f'<tspan x="{column * CELL:.1f}" textLength="{len(text) * CELL:.1f}"{style}>{escape(text)}</tspan>'


def share(seconds: float, length: float) -> str:
    """A time as a percentage of the picture's length."""
    return f"{100 * seconds / length:.2f}".rstrip("0").rstrip(".") + "%"


if __name__ == "__main__":
    main()
