"""SVG drawings with scales, ticks and marks; colours and fonts come from the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

WIDTH = 320
"""Width of a drawing in its own units: legible on a telephone, three in a row on a laptop."""


@dataclass(frozen=True)
class Scale:
    """Maps values to positions, linearly or logarithmically."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The position of a value; values outside the range are moved to its edge."""
        value = min(max(value, self.low), self.high)
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + (self.end - self.start) * share

    def ticks(self) -> list[float]:
        """A few round values in the range."""
        return _decades(self.low, self.high) if self.log else round_values(self.low, self.high)


def round_values(low: float, high: float, n_steps: int = 4) -> list[float]:
    """About ``n_steps`` multiples of 1, 2 or 5 times a power of ten.

    >>> round_values(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / n_steps
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.75)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    powers = [10.0**e for e in range(-12, 3)]
    with_threes = [m * power for power in powers for m in (1, 3)]

    def in_range(values: Sequence[float]) -> list[float]:
        return [value for value in values if low * 0.999 <= value <= high * 1.001]

    return in_range(with_threes) if len(in_range(with_threes)) <= 5 else in_range(powers)


def tick_label(value: float) -> str:
    """The shortest text of a value."""
    return f"{value:g}" if abs(value) < 10_000 else f"{value:,.0f}"


@dataclass
class Drawing:
    """Marks on a canvas of ``WIDTH`` x ``height``; ``title`` is for screen readers."""

    title: str
    height: float
    _marks: list[Markup] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str = "grid") -> None:
        """A straight line.

        Args:
            x1: position of one end.
            y1: position of one end.
            x2: position of the other end.
            y2: position of the other end.
            css: class.
        """
        template = '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>'
        self._add(template, x1, y1, x2, y2, css)

    def path(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """A line through points."""
        points_text = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self._add('<path d="M{}" class="{}"/>', points_text, css)

    def dot(self, x: float, y: float, css: str, radius: float = 3.5) -> None:
        """A filled circle.

        Args:
            x: position of its centre.
            y: position of its centre.
            css: class.
            radius: in the drawing's units.
        """
        self._add('<circle cx="{:.1f}" cy="{:.1f}" r="{}" class="{}"/>', x, y, radius, css)

    def bar(self, x1: float, x2: float, y: float, height: float, css: str = "bar") -> None:
        """A filled horizontal bar.

        Args:
            x1: position of one end.
            x2: position of the other end.
            y: position of its upper edge.
            height: in the drawing's units.
            css: class.
        """
        left, width = min(x1, x2), max(abs(x2 - x1), 0.5)
        template = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}"/>'
        self._add(template, left, y, width, height, css)

    def text(self, x: float, y: float, text: str, css: str = "", anchor: str = "start") -> None:
        """A text.

        Args:
            x: position of its anchor.
            y: position of its baseline.
            text: is escaped.
            css: class.
            anchor: the part of the text at ``x``: start, middle or end.
        """
        template = '<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>'
        self._add(template, x, y, anchor, css, text)

    def _add(self, template: str, *values: object) -> None:
        self._marks.append(Markup(template).format(*values))

    def markup(self) -> Markup:
        """The drawing for a page."""
        head = Markup('<svg viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">').format(
            WIDTH, self.height, self.title
        )
        return head + Markup("").join(self._marks) + Markup("</svg>")


@dataclass(frozen=True)
class Plot:
    """A drawing with two axes."""

    drawing: Drawing
    x: Scale
    y: Scale

    @classmethod
    def square(
        cls,
        title: str,
        axes: tuple[str, str],
        x: tuple[float, float],
        y: tuple[float, float],
        log: bool = False,
    ) -> Plot:
        """A canvas with two axes, a little lower than wide.

        Args:
            title: for screen readers.
            axes: names of the x axis and the y axis.
            x: range of the x axis.
            y: range of the y axis.
            log: whether both axes are logarithmic.
        """
        height, left, top, bottom = 272.0, 46.0, 24.0, 42.0
        plot = cls(
            Drawing(title, height),
            Scale(*x, left, WIDTH - 12, log=log),
            Scale(*y, height - bottom, top, log=log),
        )
        plot._draw_axes(*axes)
        return plot

    def _draw_axes(self, x_name: str, y_name: str) -> None:
        draw, x, y = self.drawing, self.x, self.y
        for tick in y.ticks():
            draw.line(x.start, y(tick), x.end, y(tick))
            draw.text(x.start - 6, y(tick) + 4, tick_label(tick), "tick", "end")
        for tick in x.ticks():
            draw.line(x(tick), y.start, x(tick), y.start + 4, "axis")
            draw.text(x(tick), y.start + 16, tick_label(tick), "tick", "middle")
        draw.line(x.start, y.start, x.end, y.start, "axis")
        draw.text((x.start + x.end) / 2, y.start + 35, x_name, "axis-name", "middle")
        draw.text(0, y.end - 12, y_name, "axis-name")

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
        """The positions of points given by their values."""
        return [(self.x(a), self.y(b)) for a, b in zip(xs, ys, strict=True)]
