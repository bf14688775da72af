"""What runs beside the API: the folder, the allocator, the abandonment timer."""
