"""Lets a CUDA build of torchvision be imported beside a CPU build of torch, for tests of timm; import it first."""

import torch

# What torchvision's Python files look for at import and its compiled half, which cannot be loaded here, would declare.
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
