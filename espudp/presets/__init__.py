"""What the gateways and clients of the world want otherwise: data, each fact with where it comes from."""

from espudp.presets.products import PRESETS
from espudp.presets.table import Preset

__all__ = ["PRESETS", "Preset"]
