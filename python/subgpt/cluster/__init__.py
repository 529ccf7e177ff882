"""Work spread over the machines of a Ray cluster, for those who keep it in pools of processes otherwise.

`connection` joins a cluster, `shared` sees that its machines see the same files, `tasks` runs functions there, and
`board` is what these and the process that began them say to each other. Needs the extra ``ray``.
"""

from subgpt.cluster.board import Link
from subgpt.cluster.connection import Cluster
from subgpt.cluster.tasks import LostError, NotBegunError, Tasks

__all__ = ["Cluster", "Link", "LostError", "NotBegunError", "Tasks"]
