"""Elements of a drawing as text. Whatever stands in an attribute or between tags is escaped here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from finetune.untrusted import visible

Place = tuple[float, float]

_ARM = ((-0.4, -0.4), (-0.4, -1.3), (0.4, -1.3), (0.4, -0.4))
# Outlines around the origin, for `mark` to scale; those of neighbours differ much.
SHAPES = (
    ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    ((0, -1.25), (1.25, 1), (-1.25, 1)),
    ((0, -1.45), (1.45, 0), (0, 1.45), (-1.45, 0)),
    ((0, 1.25), (1.25, -1), (-1.25, -1)),
    (*_ARM, (1.3, -0.4), (1.3, 0.4), (0.4, 0.4), (0.4, 1.3), (-0.4, 1.3), (-0.4, 0.4), (-1.3, 0.4), (-1.3, -0.4)),
    ((-1.3, 0), (1, -1.25), (1, 1.25)),
    ((-1.5, -0.7), (1.5, -0.7), (1.5, 0.7), (-1.5, 0.7)),
)


def tag(name: str, *children: Markup | str, **attributes: object) -> Markup:
    """Returns an element. `data_key` becomes data-key, `class_` class; an attribute that is None is left out."""
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    inside = Markup().join(child if isinstance(child, Markup) else visible(child) for child in children)
    start = f"<{name}{''.join(parts)}"
    return Markup(f"{start}>{inside}</{name}>" if inside else f"{start}/>")  # noqa: S704 - all parts are escaped


def text(x: float, y: float, words: str, **attributes: object) -> Markup:
    """Returns `words` with its baseline starting at (x, y), or ending there with text_anchor="end"."""
    return tag("text", words, x=x, y=y, **attributes)


def line(start: Place, end: Place, **attributes: object) -> Markup:
    """Returns a straight line."""
    return tag("path", d=_path([start, end]), fill="none", **attributes)


def curve(pieces: Iterable[Sequence[Place]], **attributes: object) -> Markup:
    """Returns lines through the places of each piece."""
    outline = "".join(_path(piece if len(piece) > 1 else [*piece, *piece]) for piece in pieces if piece)
    return tag("path", d=outline, fill="none", stroke_linejoin="round", stroke_linecap="round", **attributes)


def area(places: Sequence[Place], **attributes: object) -> Markup:
    """Returns the filled outline through `places`."""
    return tag("path", d=_path(places) + "Z", **attributes)


def mark(shape: int, x: float, y: float, *children: Markup, radius: float = 3.2, **attributes: object) -> Markup:
    """Returns the mark of number `shape`, at (x, y); 0 is a dot, and from the eighth on they come again."""
    kind = shape % (1 + len(SHAPES))
    if kind == 0:
        return tag("circle", *children, cx=x, cy=y, r=radius, **attributes)
    return tag(
        "path",
        *children,
        d=_path([(x + radius * dx, y + radius * dy) for dx, dy in SHAPES[kind - 1]]) + "Z",
        **attributes,
    )


def drawing(width: float, height: float, *children: Markup, **attributes: object) -> Markup:
    """Returns a whole drawing."""
    return tag(
        "svg",
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_text(width)} {_text(height)}",
        width=width,
        height=height,
        font_family="system-ui, sans-serif",
        font_size=12,
        **attributes,
    )


def _path(places: Sequence[Place]) -> str:
    (x, y), *rest = places
    return f"M{_text(x)} {_text(y)}" + ("L" if rest else "") + " ".join(f"{_text(x)} {_text(y)}" for x, y in rest)


def _text(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else visible(str(value))
