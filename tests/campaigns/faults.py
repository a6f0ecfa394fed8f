"""The faults that `planted_faults.py` plants, one changed place of cpp/ each, numbered from 1."""

from __future__ import annotations

from faults_conv import FAULTS_CONV
from faults_layers import FAULTS_LAYERS
from faults_tiles import FAULTS_TILES
from faults_weights import FAULTS_WEIGHTS
from faults_winograd import FAULTS_WINOGRAD

FAULTS = [*FAULTS_CONV, *FAULTS_WINOGRAD, *FAULTS_WEIGHTS, *FAULTS_TILES, *FAULTS_LAYERS]
