"""Corpora: the released Olympic Sports annotations, and the project's own rendered athletes."""
