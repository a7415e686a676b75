"""Where labelled images come from, one file for each kind."""

from resnets.data.sources.folder import images_below as images_below
from resnets.data.sources.idx import read_idx as read_idx
from resnets.data.sources.manifest import MANIFESTS as MANIFESTS
from resnets.data.sources.manifest import manifest_paths as manifest_paths
from resnets.data.sources.opening import open_dataset as open_dataset
