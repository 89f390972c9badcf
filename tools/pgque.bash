# bash completion for pgque(1)

_pgque() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} path='' i
  local settings='--max-count --max-lag --idle-period --rotation-period --max-retries --pause --resume --external-ticker --own-ticker'
  local words=''
  COMPREPLY=()
  # The subcommand so far, such as "queue create".
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      --dsn) ((i++)) ;;
      -*) ;;
      *)
        case "$path" in
          '' | dlq | queue) path=${path:+$path }${COMP_WORDS[i]} ;;
        esac
        ;;
    esac
  done
  case $previous in
    -f | --file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --reset) words='max-count max-lag idle-period rotation-period max-retries pause external-ticker' ;;
    --dsn | -t | --type | --at | --subconsumer | --limit | --batch-size | --max-* | --*-period | --period | --older-than | \
      --dead-interval | --stuck-after | --all) return ;;
    *)
      case $path in
        '') words='send tail tick queues queue consumers subscribe unsubscribe dlq doctor metrics status --version' ;;
        send) words='--file --type --text --batch --batch-size --atomic --no-progress' ;;
        tail) words='--once --peek --limit --subscribe --raw --pooled --subconsumer --dead-interval --poll-interval' ;;
        tick) words='--period --retry-period --maintenance-period --rotation-period --standby-period --max-lag --pooled --quiet' ;;
        queue) words='create drop set' ;;
        'queue create') words=$settings ;;
        'queue set') words="$settings --reset" ;;
        'queue drop') words='--force' ;;
        subscribe) words='--at --subconsumer' ;;
        unsubscribe) words='--subconsumer --retry-batch' ;;
        dlq) words='list replay purge' ;;
        'dlq list') words='--limit' ;;
        'dlq replay') words='--all --yes' ;;
        'dlq purge') words='--older-than' ;;
        doctor) words='--stuck-after' ;;
      esac
      words+=' --dsn --json --help'
      ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _pgque pgque
