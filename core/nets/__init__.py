"""Networks: VGG16, SqueezeNet, the two that paint, and their weights on disk."""
