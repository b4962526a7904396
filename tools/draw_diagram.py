"""Draw where RED edits a transformer layer, for light and dark pages.

    python tools/draw_diagram.py docs/images

Writes red_light.svg and red_dark.svg: the frozen layer, the two vectors after its FFN, and the fold into the weights.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT = 800, 228
_SANS = "-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
_SERIF = "Georgia, 'Times New Roman', serif"


@dataclass(frozen=True)
class Theme:
    """The colours of one variant: text, quiet text, lines, the frozen parts and the trained ones."""

    text: str
    quiet: str
    line: str
    frozen: str
    trained: str
    trained_line: str


THEMES = {
    "light": Theme("#1f2328", "#59636e", "#818b98", "#f0f2f5", "#ffe3e0", "#cf222e"),
    "dark": Theme("#e6edf3", "#9198a1", "#767f89", "#21262d", "#4a1f22", "#ff7b72"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw where RED edits a transformer layer.")
    parser.add_argument("folder", type=Path, help="the folder that red_light.svg and red_dark.svg are written to")
    folder = parser.parse_args().folder
    for name, theme in THEMES.items():
        (folder / f"red_{name}.svg").write_text(drawing(theme), encoding="utf-8")


def drawing(theme: Theme) -> str:
    """The whole picture as SVG, without a background so that it fits any page."""
    parts = [
        rect(24, 46, 552, 132, "none", theme.line, dashed=True),
        words(36, 36, "one transformer layer, repeated", theme.quiet, 13, "start"),
        arrow(8, 112, 52, theme),
        box(54, 88, 92, "attention", theme),
        arrow(146, 112, 176, theme),
        plus(188, 112, theme),
        arrow(200, 112, 228, theme),
        box(230, 88, 64, "FFN", theme),
        arrow(294, 112, 340, theme),
        words(316, 102, "h", theme.text, 17, "middle", _SERIF),
        rect(342, 82, 160, 60, theme.trained, theme.trained_line),
        words(422, 118, "scale ⊙ h + bias", theme.text, 16, "middle", _SERIF),
        arrow(502, 112, 530, theme),
        plus(542, 112, theme),
        arrow(554, 112, 602, theme),
        skip(40, 188, theme),
        skip(214, 542, theme),
        words(422, 166, "trained: two vectors of h's width", theme.trained_line, 13, "middle"),
        words(100, 166, "frozen", theme.quiet, 13, "middle"),
        words(262, 166, "frozen", theme.quiet, 13, "middle"),
        words(614, 92, "after training", theme.quiet, 13, "start"),
        words(614, 118, "W′ = diag(scale) W", theme.text, 16, "start", _SERIF),
        words(614, 144, "b′ = scale ⊙ b + bias", theme.text, 16, "start", _SERIF),
        words(300, 208, "scale starts at 1 and bias at 0, so training begins with the model as it was", theme.quiet, 13,
              "middle"),
    ]  # fmt: skip
    title = "RED multiplies the output h of a layer's FFN by a scale and adds a bias; all weights stay frozen."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" font-family="{_SANS}">\n<title>{title}</title>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def rect(x: int, y: int, width: int, height: int, fill: str, line: str, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    place = f'x="{x}" y="{y}" width="{width}" height="{height}" rx="8"'
    return f'<rect {place} fill="{fill}" stroke="{line}" stroke-width="1.5"{dashes}/>'


def box(x: int, y: int, width: int, label: str, theme: Theme) -> str:
    """A frozen module with its name."""
    return rect(x, y, width, 48, theme.frozen, theme.line) + words(
        x + width // 2, y + 30, label, theme.text, 16, "middle"
    )


def words(x: int, y: int, text: str, colour: str, size: int, anchor: str, font: str = "") -> str:
    family = f' font-family="{font}"' if font else ""
    return f'<text x="{x}" y="{y}" fill="{colour}" font-size="{size}" text-anchor="{anchor}"{family}>{text}</text>'


def arrow(x: int, y: int, end: int, theme: Theme) -> str:
    """A horizontal line whose head ends at `end`."""
    head = f'<path d="M{end - 8} {y - 4} L{end} {y} L{end - 8} {y + 4} Z" fill="{theme.line}"/>'
    return f'<path d="M{x} {y} H{end - 6}" stroke="{theme.line}" stroke-width="1.5" fill="none"/>{head}'


def plus(x: int, y: int, theme: Theme) -> str:
    """The sum of a residual connection."""
    ring = f'<circle cx="{x}" cy="{y}" r="12" fill="none" stroke="{theme.line}" stroke-width="1.5"/>'
    return ring + f'<path d="M{x - 6} {y} H{x + 6} M{x} {y - 6} V{y + 6}" stroke="{theme.line}" stroke-width="1.5"/>'


def skip(start: int, end: int, theme: Theme) -> str:
    """A residual connection over the modules between, into the sum at `end`."""
    head = f'<path d="M{end - 4} 92 L{end} 100 L{end + 4} 92 Z" fill="{theme.line}"/>'
    line = f"M{start} 112 V68 Q{start} 60 {start + 8} 60 H{end - 8} Q{end} 60 {end} 68 V94"
    return f'<path d="{line}" stroke="{theme.line}" stroke-width="1.5" fill="none"/>{head}'


if __name__ == "__main__":
    main()
