"""The guided tour: what `manage.py backbeat_demo` is made of."""
