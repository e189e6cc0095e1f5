//! `keepshare token`.

use keepshare_control::{
    Outcome,
    answers::TokenInfo,
    client::Client,
    questions::{TokenCreate, TokenList},
};
use keepshare_versioning::when::machine_zone;

use crate::output::{Screen, Table, time_text};

/// Makes a token and says what to do with it.
pub(crate) fn create(station: &Client, screen: &Screen) -> Outcome<()> {
    let info: TokenInfo = station.ask_one(&TokenCreate {})?;
    screen.value(&info, |info| {
        let join = info.join.as_deref().unwrap_or_default();
        let expires = time_text(&info.expires, machine_zone());
        format!("On the new station, before {expires}:\n\n  {join}\n\nIt can be used once.\n")
    })
}

/// Lists the tokens that can still be used.
pub(crate) fn list(station: &Client, screen: &Screen) -> Outcome<()> {
    let tokens: Vec<TokenInfo> = station.ask_all(&TokenList {})?;
    screen.value(&tokens, |tokens| {
        if tokens.is_empty() {
            return "No token can be used now; keepshare token create makes one.\n".to_owned();
        }
        let mut table = Table::new(&["ID", "ROLE", "EXPIRES"]);
        for token in tokens {
            let expires = time_text(&token.expires, machine_zone());
            table.row(vec![token.id.clone(), token.role.clone(), expires]);
        }
        table.render(0)
    })
}
