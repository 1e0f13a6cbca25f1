"""Runs for the tools that people already use: Perfetto, Wireshark, TensorBoard, and whatever reads CSV."""
