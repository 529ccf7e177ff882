"""Whether a run is made by this process alone, or by several that were started together."""

from subgpt.distributed.launch import find_group
from subgpt.training.config import TrainConfig
from subgpt.training.workers import ALONE, Workers


def find_workers(config: TrainConfig) -> Workers:
    """Give the workers of a run; MPI is looked for only where a launcher of it started this process."""
    group = find_group()
    if group is None:
        return ALONE
    from subgpt.distributed.team import Team

    def hint() -> str:
        if config.output_dir is None:
            return "nothing was written, as no output_dir was given"
        return f"go on with --resume (resume=True), on any number of processes, in {config.output_dir}"

    return Team(group, config.peer_timeout, hint)
