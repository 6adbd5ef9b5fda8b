"""Curves over a logarithmic axis, side by side, as plain SVG that reads well on light and dark pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log10
from typing import Final
from xml.sax.saxutils import escape

WIDTH: Final = 230
"""Of a panel's axes; and their height, and the room around them, in pixels."""
HEIGHT: Final = 190
LEFT, TOP, BETWEEN, BELOW = 60, 58, 34, 52
_SUPERSCRIPT: Final = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_STYLE: Final = """
  .page { fill: #ffffff } .ink { fill: #1f2328 } .soft { fill: #59636e } .grid { stroke: #d1d9e0 }
  .line0 { stroke: #0969da } .line1 { stroke: #bc4c00 } .line2 { stroke: #8250df }
  .dot0 { fill: #0969da } .dot1 { fill: #bc4c00 } .dot2 { fill: #8250df }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } .ink { fill: #e6edf3 } .soft { fill: #9198a1 } .grid { stroke: #30363d }
    .line0 { stroke: #4493f8 } .line1 { stroke: #f0883e } .line2 { stroke: #ab7df8 }
    .dot0 { fill: #4493f8 } .dot1 { fill: #f0883e } .dot2 { fill: #ab7df8 }
  }
  text { font: 12px system-ui, sans-serif } .title { font-weight: 600 } polyline { fill: none; stroke-width: 2 }
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes: `x` ascends by decades, each line has a value for every x, NaN-free."""

    title: str
    x_label: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]


def drawing(panels: Sequence[Panel], y_label: str, legend: Sequence[str]) -> str:
    """The SVG; all panels share one scale from 0 on.

    >>> svg = drawing([Panel("t", "events", (1e3, 1e5), {"all": (1.0, 2.0)})], "us", ["all"])
    >>> svg.startswith("<svg"), svg.count("<circle")
    (True, 3)
    """
    top = _round_up(max(value for panel in panels for line in panel.lines.values() for value in line))
    width = LEFT + len(panels) * (WIDTH + BETWEEN)
    height = TOP + HEIGHT + BELOW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<style>{_STYLE}</style><rect class="page" width="{width}" height="{height}"/>',
        f'<text class="soft" transform="translate(16 {TOP + HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>",
    ]
    for place, name in enumerate(legend):
        x = LEFT + place * 130
        parts.append(f'<circle class="dot{place}" cx="{x + 5}" cy="16" r="4"/>')
        parts.append(f'<text class="ink" x="{x + 15}" y="20">{escape(name)}</text>')
    for place, panel in enumerate(panels):
        x = LEFT + place * (WIDTH + BETWEEN)
        parts += [f'<g transform="translate({x} {TOP})">', *_axes(panel, top, numbers=place == 0)]
        parts += [*_lines(panel, top, legend), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _round_up(value: float) -> float:
    """A multiple of 4 steps that are round numbers."""
    power = 10.0 ** (ceil(log10(value / 4)) - 1)
    return 4 * power * next(step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if 4 * power * step >= value)


def _x_of(panel: Panel, x: float) -> float:
    first, last = log10(panel.x[0]), log10(panel.x[-1])
    return WIDTH * (log10(x) - first) / (last - first)


def _axes(panel: Panel, top: float, *, numbers: bool) -> list[str]:
    parts = [f'<text class="ink title" x="0" y="-14">{escape(panel.title)}</text>']
    for step in range(5):
        y, value = HEIGHT * (1 - step / 4), top * step / 4
        parts.append(f'<line class="grid" x1="0" x2="{WIDTH}" y1="{y}" y2="{y}"/>')
        if numbers:
            parts.append(f'<text class="soft" x="-8" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for decade in range(ceil(log10(panel.x[0]) - 1e-9), int(log10(panel.x[-1]) + 1e-9) + 1):
        x = _x_of(panel, 10.0**decade)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT}" y2="{HEIGHT + 5}"/>')
        label = f"10{str(decade).translate(_SUPERSCRIPT)}"
        parts.append(f'<text class="soft" x="{x:.1f}" y="{HEIGHT + 20}" text-anchor="middle">{label}</text>')
    middle = f'x="{WIDTH / 2}" y="{HEIGHT + 40}" text-anchor="middle"'
    return [*parts, f'<text class="soft" {middle}>{escape(panel.x_label)}</text>']


def _lines(panel: Panel, top: float, legend: Sequence[str]) -> list[str]:
    parts = []
    for name, values in panel.lines.items():
        place = legend.index(name)
        points = [(_x_of(panel, x), HEIGHT * (1 - value / top)) for x, value in zip(panel.x, values, strict=True)]
        listed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="line{place}" points="{listed}"/>')
        parts += [f'<circle class="dot{place}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
    return parts
