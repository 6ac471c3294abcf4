"""Networks: backbones, heads, pretrained weights and fine-tuning."""
