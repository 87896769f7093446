"""Videos: read in step, fused steadily, written so that a crash leaves what can be played."""

from ddfm.video.run import VideoResult, fuse_videos
from ddfm.video.writing import partial_paths

__all__ = ["VideoResult", "fuse_videos", "partial_paths"]
