"""One shape. Clips of one step go in; a `Batch` comes out: one contiguous array per field, slots in order.

    frames = allocate(specs)                    one array for all slots
    decode ... into frames[slot]                no copy afterwards
    batch = assemble(step, first_slot, global_size, specs, clips, frames_BTHWC=frames)

`batch_digest` names the content of a step, the same for every number of ranks. `split` and `concat` go between ranks'
shares and the whole. `contact_sheet` and `write_npz` are for people to look at.
"""

from cineray.batch.assemble import allocate, assemble, text_of
from cineray.batch.digest import batch_digest, slot_digest
from cineray.batch.shares import concat, split, take_slots
from cineray.batch.show import contact_sheet, write_npz

__all__ = [
    "allocate",
    "assemble",
    "batch_digest",
    "concat",
    "contact_sheet",
    "slot_digest",
    "split",
    "take_slots",
    "text_of",
    "write_npz",
]
