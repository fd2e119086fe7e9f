"""Speech recognition with recurrent networks and CTC."""
