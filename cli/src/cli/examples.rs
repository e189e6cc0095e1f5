//! What `--help` shows below the options.

pub(super) const EXIT_CODES: &str =
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 refused, 5 unavailable";

pub(super) const DEMO_EXAMPLES: &str = "Examples:
  keepshare demo --single
  keepshare demo --source ~/Documents --state ~/keepshare-demo";

pub(super) const INIT_EXAMPLES: &str = "Examples:
  keepshare init --name office
  keepshare init --name office --listen 10.0.0.1:7846 --state /srv/keepshare";

pub(super) const TOKEN_EXAMPLES: &str = "Examples:
  keepshare token create
  TOKEN=$(keepshare token create --json | jq -r .token)";

pub(super) const JOIN_EXAMPLES: &str = "Examples:
  keepshare join office.example --token v1.… --name store
  KEEPSHARE_TOKEN=v1.… keepshare join 10.0.0.1:7846 --name store --listen 10.0.0.2:7846";

pub(super) const STATUS_EXAMPLES: &str = "Examples:
  keepshare status
  keepshare status --watch
  out=$(keepshare status --check 2>&1) || echo \"$out\" | mail -s keepshare root
  keepshare status --json | jq -r '.stations[].sets[] | .name + \" \" + .state'";

pub(super) const SET_MIRROR_EXAMPLES: &str = "Examples:
  keepshare set mirror projects
  keepshare set mirror projects --to store --new-epoch
  keepshare set mirror projects --new-source";

pub(super) const ADDRESS_EXAMPLES: &str = "Examples:
  keepshare station set-address store 10.0.0.7
  keepshare station set-address store store.example:7846

On the first station it is for the whole cluster, elsewhere for that station alone. A station whose own station.toml
names another address or listen than before tells the first station by itself.";

pub(super) const SET_EXAMPLES: &str = "Examples:
  keepshare set add files --source /srv/files
  keepshare set add projects --source /srv/projects --to store --to cellar";

pub(super) const USER_EXAMPLES: &str = "Examples:
  keepshare user add anna
  keepshare user add ben --uid 1001 --gid 100 --group 50 --set projects --read-only
  pass show ben | keepshare user add ben --password-stdin";

pub(super) const LOGIN_EXAMPLES: &str = "Examples:
  keepshare login anna@store.example
  keepshare login anna@10.0.0.2:7443 --set projects --ca 3f5a…
  keepshare login anna@store.example --resume
  keepshare login anna --shared --address 10.0.0.77

The ticket that it prints works once, within two minutes, from the address and for the user it was made for.";

pub(super) const MOUNT_EXAMPLES: &str = "Examples:
  sudo keepshare mount anna@store.example /mnt/projects
  keepshare mount anna@10.0.0.2 ~/projects --set projects
  keepshare unmount /mnt/projects

Under sudo the drive is for you, not for root: --shared opens it to all users of this machine.";

pub(super) const GRANT_EXAMPLES: &str = "Examples:
  keepshare session grant 10.0.0.7 --set projects
  keepshare session grant 10.0.1.0/24 --set projects --write --yes

No password is asked of these machines. They mount STATION:/SET, and each of their users has the rights of the user with
the same numbers; only root is nobody. Trust only machines that you administer, on a network that nobody else can use.";

pub(super) const VERSIONS_EXAMPLES: &str = "Examples:
  keepshare versions projects:plan/report.docx
  keepshare versions ./report.docx
  keepshare versions projects:plan --json";

pub(super) const SHOW_EXAMPLES: &str = "Examples:
  keepshare show projects:plan/report.txt@yesterday
  keepshare show projects:plan/report.txt@v1.1.42-7 > report-then.txt
  keepshare show projects:plan@2026-11-20_15.32";

pub(super) const DIFF_EXAMPLES: &str = "Examples:
  keepshare diff projects:plan/report.txt@yesterday
  keepshare diff projects:plan/report.txt@v1.1.42-7 @2h -U 10
  keepshare diff projects:plan@point:before-upgrade
  keepshare diff projects:plan@monday projects:plan-new --json

The exit code is 0 whether they differ or not; with --exit-code it is 1 where they do. Two texts are shown line by line, other
files in a line, and of two folders all that is different in them.";

pub(super) const RESTORE_EXAMPLES: &str = "Examples:
  keepshare restore projects:plan/report.docx@2h
  keepshare restore projects:plan@2026-11-20 --to /tmp/plan-then
  keepshare restore projects:plan/report.docx@v1.1.42-7 --to . --force

TIME is 9:00, 2026-11-20, 2026-11-20_15.32, 28.11.2026, 2026-11-20T15:32:07Z, yesterday, monday, 2h, 1h30m, latest, or
a version's id. A time means the last instant inside what was typed. Restoring in place makes a new version: it can be
undone.";

pub(super) const ROLLBACK_EXAMPLES: &str = "Examples:
  keepshare rollback projects:plan@9:00 --dry-run
  keepshare rollback projects:plan@point:before-import
  keepshare rollback projects:@yesterday --yes
  keepshare rollback --list
  keepshare rollback --undo 1f2e3d4c --set projects

The folder's files get back what they were, where they were. What was made since goes, where it is a version; what was moved in
from elsewhere stays. Everything that is replaced or removed is a version, and the whole can be undone for 30 days.

A user gets back what they may change; the rest stays, and is listed as far as they may see it. It goes on until they log out.";

pub(super) const UNDELETE_EXAMPLES: &str = "Examples:
  keepshare undelete projects:plan --since 9:00 --dry-run
  keepshare undelete projects: --since yesterday --yes";

pub(super) const FIND_EXAMPLES: &str = "Examples:
  keepshare find budget
  keepshare find '*.docx' --set projects
  keepshare find '*' --deleted --since 2h --in projects:plan
  keepshare find budget --deleted --json";

pub(super) const FSCK_EXAMPLES: &str = "Examples:
  keepshare fsck
  keepshare fsck projects --json
  keepshare fsck projects --repair-clock";

pub(super) const SCRUB_EXAMPLES: &str = "Examples:
  keepshare scrub status
  keepshare scrub now projects
  keepshare scrub pause

A station reads everything that it keeps within 30 days, a small set once a week, and tells in keepshare status what is damaged.
[scrub] in its config says how fast. keepshare fsck compares every version with its master's hash, too, and takes longer.";

pub(super) const RETENTION_EXAMPLES: &str = "Examples:
  keepshare retention show
  keepshare retention plan projects
  keepshare retention apply projects --plan 1a2b3c4d5e6f
  keepshare retention undo projects --yes
  keepshare retention plan projects max_age=2y
  keepshare retention set projects max_age=2y --yes
  keepshare retention explain projects:plan/report.docx";

pub(super) const POINT_EXAMPLES: &str = "Examples:
  keepshare point create projects before-upgrade
  keepshare point create projects month-end --lasts 400d --hold=30d
  keepshare point list projects
  keepshare point every projects 1h --keep 24
  keepshare show projects:plan/report.docx@point:before-upgrade
  keepshare restore projects:plan@point:before-upgrade --to /tmp/plan-then
  keepshare point check projects -- ./can-it-be-opened
  keepshare point check shop nightly --path db --in /srv/scratch -- pg_verifybackup .
  keepshare point last-good shop
  keepshare point restore shop nightly --dry-run
  keepshare point remove projects before-upgrade --yes

On the drive a point is a folder: @versions/_points/before-upgrade.";

pub(super) const ALARM_EXAMPLES: &str = "Examples:
  keepshare alarm list
  keepshare alarm show 1f2e3d4c
  keepshare alarm close 1f2e3d4c
  keepshare alarm set projects files=2000 share=50

A station tells of a burst where, within ten minutes, more than 500 files of a set, or more than a fifth of it, are rewritten or
deleted, and seven of ten of those no longer read as what they were. It holds the moment before as a point for 30 days.

Keys: watch=on|off  files=500  share=20 (percent of the set)  within=10m  spoiled=70 (percent of what changed)";

pub(super) const RETENTION_KEYS: &str = "Keys:
  steps=0:1h,1h:1d,1d:14d,7d:70d,30d  how far apart versions lie, SPACING:UNTIL-AGE; the last has no end
  last=12                             the newest ones stay in any case
  max_versions=64                     above that, those go that are closest for their age; or none
  max_age=none                        older ones go, but for the newest
  min_age=1h                          nothing goes before
  deleted=90d                         what is deleted stays so long; none: for ever
  protect_days=14                     the first and the last version of each of so many days stay
Times are whole numbers with s, m, h, d, w or y.";

pub(super) const BACKUP_EXAMPLES: &str = "Examples:
  keepshare station backup /srv/backup/office.age
  keepshare station backup /srv/backup/office.age --force --passphrase-file /etc/keepshare/backup.passphrase

The station may run meanwhile. The file is what age makes of a passphrase (age -d opens it, too).";

pub(super) const STATION_RESTORE_EXAMPLES: &str = "Examples:
  keepshare station restore /srv/backup/office.age --list
  keepshare station restore /srv/backup/office.age

Sessions, grants to machines and join tokens of then are ended; users and passwords are those of then.";

pub(super) const AUDIT_EXAMPLES: &str = "Examples:
  keepshare audit show --since 9:00 --event restore
  keepshare audit show --user anna --set projects --json
  keepshare audit verify
  keepshare audit show --head
  keepshare audit verify --in /srv/copy --head 812:1f0c…

Other stations keep heads of this station's log, and verify asks them.";

pub(super) const COMPLETIONS_EXAMPLES: &str = "Examples:
  keepshare completions bash > /etc/bash_completion.d/keepshare
  keepshare completions zsh > ~/.zfunc/_keepshare";
