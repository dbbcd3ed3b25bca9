# A condition before a join function. Changes:
# - The first two lines, and `stream::auth` as in `join_with_context.py`: the printed fragment supposes both.
# - `register_function('onJoin', …)` for `register_function({'id': 'onJoin'}, …)`, and the condition likewise: the published
#   SDK takes the id as text.
# Not changed: without a token, the context is null, so that the condition fails. That counts as false.
from iii import register_worker
iii = register_worker('ws://localhost:49134')

def stream_auth(input):
    auth = input.get('headers', {}).get('authorization', '')
    token = auth.replace('Bearer ', '', 1) if auth.startswith('Bearer ') else None
    if token:
        return {'context': {'userId': 'user-from-token'}}
    return {'context': None}

iii.register_function('stream::auth', stream_auth)

def require_context(input):
    return input.get('context', {}).get('userId') is not None

iii.register_function('conditions::requireContext', require_context)

def on_join(input):
    print('User joined:', input.get('context', {}).get('userId'), input['stream_name'])
    return {}

iii.register_function('onJoin', on_join)
iii.register_trigger({
    'type': 'stream:join',
    'function_id': 'onJoin',
    'config': {'condition_function_id': 'conditions::requireContext'},
})
