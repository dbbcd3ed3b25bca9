# Who joins is known by the token. Changes:
# - The first two lines: the printed fragments suppose a worker.
# - `register_function('stream::auth', …)` for `register_function({'id': 'stream::auth'}, …)`, and `onJoin` likewise: the
#   published SDK takes the id as text.
# Not changed: without a token, the context is null, so that `on_join` fails. An error of a join handler lets in.
from iii import register_worker
iii = register_worker('ws://localhost:49134')

def stream_auth(input):
    auth = input.get('headers', {}).get('authorization', '')
    token = auth.replace('Bearer ', '', 1) if auth.startswith('Bearer ') else None
    if token:
        return {'context': {'userId': 'user-from-token'}}
    return {'context': None}

iii.register_function('stream::auth', stream_auth)

def on_join(input):
    context = input.get('context', {})
    if context.get('userId'):
        print(f"User {context['userId']} joined {input['stream_name']}/{input['group_id']}/{input.get('id', '')}")
    return {}

iii.register_function('onJoin', on_join)
iii.register_trigger({'type': 'stream:join', 'function_id': 'onJoin', 'config': {}})
