# One item is watched, under a condition. Printed is the registration, as JSON. Changes:
# - The first two lines, and the registrations as calls of the SDK: it is JSON that is printed.
# - The bodies of the handler and of the condition.
from iii import register_worker
iii = register_worker('ws://localhost:49134')

def should_fire(change):
    return change['event']['data']['online']

def on_change(change):
    print(change['event']['type'], change['id'], change['event']['data']['name'])

iii.register_function('auth::should-fire', should_fire)
iii.register_function('presence::on-change', on_change)
iii.register_trigger({
    'type': 'stream',
    'function_id': 'presence::on-change',
    'config': {
        'stream_name': 'presence',
        'group_id': 'room-1',
        'item_id': 'user-123',
        'condition_function_id': 'auth::should-fire',
    },
})
