"""Line plots of named curves: pictures and pages for files, and plots for the terminal."""

from finetune.figures.curves import Curve
from finetune.figures.pictures import FORMATS, check_suffix, draw, draw_panels, save
from finetune.figures.terminal import print_curves

__all__ = ["FORMATS", "Curve", "check_suffix", "draw", "draw_panels", "print_curves", "save"]
