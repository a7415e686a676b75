"""Tar shards in WebDataset's layout, opened by an index. What writes them is `data.packing`."""

from resnets.data.shards.addresses import names_shards as names_shards
from resnets.data.shards.inside import Inside as Inside
from resnets.data.shards.inside import images_in as images_in
from resnets.data.shards.inside import read as read
from resnets.data.shards.opening import open_shards as open_shards
