"""Super-packets cut into segments, segments joined into super-packets, checksums completed.

Everything works on batches of packets of one size. What is handed out is borrowed.
"""

from espudp.offload.rows import TRAILER_ROOM, Rows, rows_of
from espudp.offload.segments import finish, finished, segment, segment_all
from espudp.offload.superpackets import coalesce

__all__ = ["TRAILER_ROOM", "Rows", "coalesce", "finish", "finished", "rows_of", "segment", "segment_all"]
