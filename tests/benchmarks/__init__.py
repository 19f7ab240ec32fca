"""What `manage.py bench` measures, and the books it measures it on."""
