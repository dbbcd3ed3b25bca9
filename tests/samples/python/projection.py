# Counters that follow a group's changes. Printed are the registration, as JSON, and a sentence about what the handler does
# (`stream::update` against another stream). Changes:
# - The first two lines, and the registrations as calls of the SDK: it is JSON that is printed.
# - The handler's body, after that sentence.
from iii import register_worker
iii = register_worker('ws://localhost:49134')

def on_change(event):
    iii.trigger({
        'function_id': 'stream::update',
        'payload': {
            'stream_name': 'presence-stats',
            'group_id': event['groupId'],
            'item_id': 'counts',
            'ops': [{'type': 'increment', 'path': event['event']['type'], 'by': 1}],
        },
    })

iii.register_function('presence::on-change', on_change)
iii.register_trigger({
    'type': 'stream',
    'function_id': 'presence::on-change',
    'config': {'stream_name': 'presence', 'group_id': 'room-1'},
})
