"""Messages to columns: `Decoder.decode` turns a block of JSON, CSV or Arrow rows into a batch of events."""

from streamctr.decode.cells import Cells, Parsed
from streamctr.decode.csv import parse_csv
from streamctr.decode.decoder import OTHER, Decoded, Decoder
from streamctr.decode.rows import parse_rows
from streamctr.decode.tally import reason_kind

__all__ = ["OTHER", "Cells", "Decoded", "Decoder", "Parsed", "parse_csv", "parse_rows", "reason_kind"]
