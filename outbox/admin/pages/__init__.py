"""The pages under "Messaging" in the admin."""

from outbox.admin.pages import doings, failures, messages, overview, storage, traffic
from outbox.admin.pages.flow import view as flow
from outbox.admin.pages.reconciliation import view as reconciliation

failures.register()
flow.register()
messages.register()
overview.register()
traffic.register()
reconciliation.register()
storage.register()
doings.register()
