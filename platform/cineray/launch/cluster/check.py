"""All that is known to be wrong with a cluster's files: schemas first, then the rules; `Looked` comes out."""

from __future__ import annotations

from cineray.launch.cluster.files import ClusterFiles
from cineray.launch.cluster.machine_rules import MACHINE_RULES
from cineray.launch.cluster.rules import RULES
from cineray.launch.cluster.schemas import Looked, check_schemas


def checked(files: ClusterFiles, crds: str = "") -> Looked:
    """Look at everything. What breaks a schema may lack what a rule asks for, so rules are only asked of the rest."""
    looked = check_schemas(files, crds)
    if looked.problems:
        looked.skipped.append("the rules, until the schemas hold")
        return looked
    rules = MACHINE_RULES if files.kind == "vm" else RULES
    for rule in rules.values():
        looked.problems += rule(files)
    looked.checked.append(f"rules: {', '.join(rules)}")
    return looked
