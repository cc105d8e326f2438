"""What the relay shows on the pages under "Messaging"."""

from relay.admin.pages import overview, storage, traffic

overview.register()
traffic.register()
storage.register()
