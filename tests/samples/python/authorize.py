# A gate that refuses joins, and what is cleaned up when somebody leaves. Printed are the registrations, as JSON, and what
# the handlers are to return. Changes:
# - The first two lines, and the registrations as calls of the SDK: it is JSON that is printed.
# - `stream::auth` as in `join_with_context.py`: it supposes a context.
# - The bodies of the handlers, after the text.
from iii import register_worker
iii = register_worker('ws://localhost:49134')

def stream_auth(input):
    auth = input.get('headers', {}).get('authorization', '')
    token = auth.replace('Bearer ', '', 1) if auth.startswith('Bearer ') else None
    if token:
        return {'context': {'userId': 'user-from-token'}}
    return {'context': None}

iii.register_function('stream::auth', stream_auth)

subscriptions = {}

def on_join(event):
    if event['group_id'] == 'private' and not event['context']:
        return {'unauthorized': True}
    subscriptions[event['subscription_id']] = event['group_id']
    return {}

def on_leave(event):
    print('left', subscriptions.pop(event['subscription_id']))

iii.register_function('presence::on-join', on_join)
iii.register_function('presence::on-leave', on_leave)
iii.register_trigger({'type': 'stream:join', 'function_id': 'presence::on-join', 'config': {}})
iii.register_trigger({'type': 'stream:leave', 'function_id': 'presence::on-leave', 'config': {}})
