"""What was concluded from runs, as a page to read and as pictures for other pages."""

from finetune.report.page import write_report
from finetune.report.pictures import write_figures

__all__ = ["write_figures", "write_report"]
