"""What trains networks. Nothing here is needed to use them."""
