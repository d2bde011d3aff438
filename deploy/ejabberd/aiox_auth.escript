#!/usr/bin/env escript
%%! -noinput +S 1:1 +A 1
%% Asks an AIOX hub who may sign in to ejabberd (its "external authentication": commands on standard
%% input, answers on standard output, each behind two bytes of length). Nothing is stored here.
%%
%%     aiox_auth.escript URL TOKEN_FILE
%%
%% The hub's side of it is described in ../README.md. When the hub does not answer, nobody gets in.

-define(PATIENCE, 8000). % milliseconds; ejabberd itself gives up after 10 seconds

main([Url, TokenFile]) ->
    {ok, _} = application:ensure_all_started(inets),
    {ok, Token} = file:read_file(TokenFile),
    %% A connection for each question: one that waits would be closed by the hub, perhaps under the next question.
    Headers = [{"authorization", "Bearer " ++ string:trim(binary_to_list(Token))}, {"connection", "close"}],
    serve(open_port({fd, 0, 1}, [binary, {packet, 2}, eof]), {Url, Headers}).

serve(Port, Hub) ->
    receive
        {Port, {data, Command}} ->
            Answer = case allowed(Command, Hub) of true -> 1; false -> 0 end,
            true = port_command(Port, <<Answer:16>>),
            serve(Port, Hub);
        {Port, eof} ->
            ok
    end.

%% A password may contain colons, so it is what is left after the third one.
allowed(<<"auth:", Rest/binary>>, Hub) ->
    case binary:split(Rest, <<":">>) of
        [User, ServerAndSecret] ->
            case binary:split(ServerAndSecret, <<":">>) of
                [_Server, Secret] -> good(User, Secret, Hub);
                _ -> false
            end;
        _ -> false
    end;
allowed(<<"isuser:", Rest/binary>>, {Url, Headers}) ->
    [User | _] = binary:split(Rest, <<":">>),
    answered(get, {Url ++ "/aiox/accounts/" ++ binary_to_list(uri_string:quote(User)), Headers});
%% setpass, tryregister, removeuser, removeuser3: accounts are kept by the hub.
allowed(_, _) ->
    false.

good(User, Secret, {Url, Headers}) ->
    Form = uri_string:compose_query([{<<"user">>, User}, {<<"secret">>, Secret}]),
    answered(post, {Url ++ "/aiox/sign-in", Headers, "application/x-www-form-urlencoded", Form}).

answered(Method, Request) ->
    case httpc:request(Method, Request, [{timeout, ?PATIENCE}, {autoredirect, false}], []) of
        {ok, {{_, 204, _}, _, _}} -> true;
        _ -> false
    end.
