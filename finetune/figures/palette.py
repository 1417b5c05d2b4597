"""What all figures share: colours and dashes that tell curves apart, inks, and how wide letters are."""

from __future__ import annotations

# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), which colour-blind readers can tell apart, with Tol's wine
# for their yellow, which is hard to see on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#000000")
# The same hues, light enough for a dark page.
COLOURS_ON_DARK = ("#4c9fe0", "#ff8040", "#1fc997", "#e8a5ca", "#f2b632", "#a3daf8", "#d4689a", "#f2f2f2")
DASHES = ([1, 0], [7, 3], [2, 2.5], [9, 3, 2, 3])

INK, FAINT, GRID = "#222222", "#666666", "#e8e8e8"

PIXELS_PER_LETTER, PIXELS_PER_BOLD_LETTER = 6.4, 7.2  # of 12-pixel type, on the safe side of the average
