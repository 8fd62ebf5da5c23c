"""MLflow: runs, packaged models, lineage, and the gate between challenger and champion."""

from catena.registry.lineage import lineage
from catena.registry.promotion import Move, promote, rollback
from catena.registry.reproduction import Reproduction, reproduce
from catena.registry.versions import model_folder

__all__ = ["Move", "Reproduction", "lineage", "model_folder", "promote", "reproduce", "rollback"]
