"""Tools for people who write kernels (floor 9; language.md 17): layouts as pictures, and what a program costs on paper."""

from __future__ import annotations

from tilewright.tools.analyzer import AnalysisResult, Analyzer
from tilewright.tools.plot_layout import plot_layout

__all__ = ["AnalysisResult", "Analyzer", "plot_layout"]
