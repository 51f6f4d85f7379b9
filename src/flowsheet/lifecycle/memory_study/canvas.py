"""Drawings of any width with several pairs of axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from flowsheet.evaluation.report.svg import WIDTH, Drawing, Scale, tick_label

PAGE_WIDTH = 960.0
"""Width of a drawing that fills the page."""
Points = Sequence[tuple[float, float]]


@dataclass
class Canvas(Drawing):
    """A drawing of any width, with areas."""

    width: float = WIDTH

    def area(self, points: Points, css: str) -> None:
        """A filled polygon."""
        points_text = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self._add('<path d="M{}Z" class="{}"/>', points_text, css)

    def tile(
        self, corner: tuple[float, float], size: tuple[float, float], css: str, opacity: float
    ) -> None:
        """A filled rectangle.

        Args:
            corner: x and y of its upper left corner.
            size: its width and height.
            css: class.
            opacity: 0..1.
        """
        template = (
            '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}" '
            'opacity="{:.2f}"/>'
        )
        self._add(template, *corner, *size, css, opacity)

    def markup(self) -> Markup:
        """The drawing for a page."""
        template = Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}" class="{}">')
        css = "wide" if self.width > WIDTH else ""
        head = template.format(self.width, self.height, self.title, css)
        return head + Markup("").join(self._marks) + Markup("</svg>")


@dataclass(frozen=True)
class Axes:
    """A rectangle of a canvas with two scales."""

    canvas: Canvas
    x: Scale
    y: Scale

    def draw(self, x_name: str = "", y_name: str = "") -> None:
        """Grid lines, ticks, and the names of the axes; without ``x_name`` no ticks below."""
        for tick in self.y.ticks():
            self.canvas.line(self.x.start, self.y(tick), self.x.end, self.y(tick))
            self.canvas.text(self.x.start - 6, self.y(tick) + 4, tick_label(tick), "tick", "end")
        self.canvas.line(self.x.start, self.y.start, self.x.end, self.y.start, "axis")
        self.canvas.text(self.x.start - 40, self.y.end - 10, y_name, "axis-name")
        if x_name:
            self.draw_x_ticks()
            middle = (self.x.start + self.x.end) / 2
            self.canvas.text(middle, self.y.start + 34, x_name, "axis-name", "middle")

    def draw_x_ticks(self) -> None:
        """Ticks of the x axis, below the rectangle."""
        for tick in self.x.ticks():
            self.canvas.line(self.x(tick), self.y.start, self.x(tick), self.y.start + 4, "axis")
            self.canvas.text(self.x(tick), self.y.start + 16, tick_label(tick), "tick", "middle")

    def line(self, xs: Iterable[float], ys: Iterable[float], css: str) -> None:
        """A line through values."""
        self.canvas.path([(self.x(x), self.y(y)) for x, y in zip(xs, ys, strict=True)], css)

    def band(
        self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], css: str
    ) -> None:
        """An area between two lines.

        Args:
            xs: values on the x axis.
            low: the lower line.
            high: the upper line.
            css: class.
        """
        forward = [(self.x(x), self.y(y)) for x, y in zip(xs, low, strict=True)]
        backward = [(self.x(x), self.y(y)) for x, y in zip(xs, high, strict=True)][::-1]
        self.canvas.area([*forward, *backward], css)
