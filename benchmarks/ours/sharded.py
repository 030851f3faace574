"""The settings of the benchmark's project, with workflows in two databases."""

from benchmarks.ours.settings import *  # noqa: F403
from benchmarks.ours.settings import DATABASES as _ONE

DATABASES = {
    "default": _ONE["default"],
    "shard_1": {**_ONE["default"], "NAME": "backbeat_shard"},
}
DATABASE_ROUTERS = ["benchmarks.ours.router.ShardRouter"]
BACKBEAT = {"DATABASES": ["default", "shard_1"]}
