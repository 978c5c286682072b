"""A training on one page: what was promised, spent, sent, measured and assumed."""

from tff_privacy_agg.reports.page import render_report, write_report
from tff_privacy_agg.reports.run_files import RunFiles

__all__ = ['RunFiles', 'render_report', 'write_report']
