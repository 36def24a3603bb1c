"""Small SVG drawings for the home page."""

from pages._ui.shell.style import EMOTIONS

__all__ = ["curves", "matrix", "sound"]

TINTS = [colour for colour, _ in EMOTIONS.values()]


def _svg(shapes: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 48" width="240" height="96">{shapes}</svg>'
    )


def sound() -> str:
    """Bars of a spectrum."""
    heights = (12, 22, 34, 28, 40, 30, 18, 26, 38, 24, 14, 20, 10)
    return _svg(
        "".join(
            f'<rect x="{4 + 9 * i}" y="{44 - h}" width="6" height="{h}" rx="2" fill="{TINTS[i % 5]}"/>'
            for i, h in enumerate(heights)
        )
    )


def curves() -> str:
    """A loss that falls and an accuracy that rises."""
    return _svg(
        f'<path d="M6 8 C30 34 60 40 114 42" fill="none" stroke="{TINTS[4]}" stroke-width="3"/>'
        f'<path d="M6 40 C30 20 60 12 114 9" fill="none" stroke="{TINTS[2]}" stroke-width="3" '
        'stroke-dasharray="6 3"/>'
    )


def matrix() -> str:
    """A confusion matrix."""
    cells = [(row, column) for row in range(4) for column in range(4)]
    return _svg(
        "".join(
            f'<rect x="{36 + 12 * c}" y="{1 + 12 * r}" width="10" height="10" rx="2" fill="{TINTS[2]}" '
            f'opacity="{0.95 if r == c else 0.15 + 0.12 * ((r * 3 + c) % 4)}"/>'
            for r, c in cells
        )
    )
