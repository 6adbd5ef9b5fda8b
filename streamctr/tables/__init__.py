"""Embedding tables: ids to rows of one fused table, drawn when asked for, learned row by row."""

from streamctr.tables.config import TablesConfig
from streamctr.tables.fused import FusedTable, Places, RowGradients

__all__ = ["FusedTable", "Places", "RowGradients", "TablesConfig"]
