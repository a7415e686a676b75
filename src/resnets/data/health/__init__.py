"""Whether a dataset is healthy: files that can't be used, images that are there twice, splits and classes that don't fit."""

from resnets.data.health.briefly import brief as brief
from resnets.data.health.briefly import in_words as in_words
from resnets.data.health.checking import check as check
from resnets.data.health.found import KINDS as KINDS
from resnets.data.health.found import Health as Health
from resnets.data.health.found import Problem as Problem
