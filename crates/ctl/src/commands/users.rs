//! Users and their passwords.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::{DATA, Failure, Misuse, NO_USER, SOFTWARE, Unfit};
use crate::json::{flag, text, texts};
use crate::options::flag as switch;
use crate::output::Output;
use crate::term::Term;
use crate::tool::Tools;

const NO_PASSWORD: &str = "Password is not provided via argument or stdin";
const ADDED: &str = "Done. Don't forget to grant the user permissions to some \
                     virtual hosts! See 'rabbitmqctl help set_permissions' to learn \
                     more.";

pub(super) const COMMANDS: &[Command] = &[
    command("add_user", Tools::CTL, Section::Users, add)
        .about("Makes a user, who may do nothing at first")
        .usage(
            "add_user <username> [<password>] [<password_hash> \
             --pre-hashed-password]",
        )
        .details(&[
            ("<username>", "the name of the user"),
            (
                "<password>",
                "the password; read from standard input when left out; empty \
                 for a user without one",
            ),
            (
                "<password_hash>",
                "the hash of a password in base64, as hash_password prints it",
            ),
            ("--pre-hashed-password", "the second argument is a hash"),
        ])
        .switches(&[switch("pre-hashed-password")])
        .args(1, 2)
        .check(check_add)
        .banner(|call| format!("Adding user \"{}\" ...", call.arg(0))),
    command("delete_user", Tools::CTL, Section::Users, delete)
        .about("Deletes a user")
        .usage("delete_user <username>")
        .details(&[("<username>", "the name of the user")])
        .args(1, 1)
        .banner(|call| format!("Deleting user \"{}\" ...", call.arg(0))),
    command(
        "change_password",
        Tools::CTL,
        Section::Users,
        change_password,
    )
    .about("Gives a user another password")
    .usage("change_password <username> <password>")
    .details(&[
        ("<username>", "the name of the user"),
        (
            "<password>",
            "the new password; read from standard input when left out",
        ),
    ])
    .args(1, 2)
    .banner(|call| format!("Changing password for user \"{}\" ...", call.arg(0))),
    command("clear_password", Tools::CTL, Section::Users, clear_password)
        .about(
            "Leaves a user without a password, who then cannot log in with \
             one",
        )
        .usage("clear_password <username>")
        .details(&[("<username>", "the name of the user")])
        .args(1, 1)
        .banner(|call| format!("Clearing password for user \"{}\" ...", call.arg(0))),
    command(
        "authenticate_user",
        Tools::CTL,
        Section::Users,
        authenticate,
    )
    .about("Checks a password; fails when it is wrong")
    .usage("authenticate_user <username> <password>")
    .details(&[
        ("<username>", "the name of the user"),
        (
            "<password>",
            "the password; read from standard input when left out",
        ),
    ])
    .args(1, 2)
    .banner(|call| format!("Authenticating user \"{}\" ...", call.arg(0))),
    command("list_users", Tools::BOTH, Section::Users, list)
        .about("Lists users and their tags")
        .usage("list_users [--no-table-headers]")
        .details(&[super::NO_HEADERS])
        .timed()
        .table()
        .banner(|_| "Listing users ...".to_owned()),
    command("set_user_tags", Tools::CTL, Section::Users, set_tags)
        .about("Sets the tags of a user")
        .usage("set_user_tags <username> <tag> [...]")
        .details(&[
            ("<username>", "the name of the user"),
            (
                "<tag>",
                "administrator, monitoring, policymaker, management, or another \
                 word; none removes all",
            ),
        ])
        .args(1, usize::MAX)
        .banner(|call| {
            let tags = call.args[1..].join(", ");
            format!("Setting tags for user \"{}\" to [{tags}] ...", call.arg(0))
        }),
    command("hash_password", Tools::CTL, Section::Users, hash)
        .about("Prints the hash of a password")
        .offline()
        .usage("hash_password <cleartext_password>")
        .details(&[(
            "<cleartext_password>",
            "the password; read from standard input when left out",
        )])
        .args(0, 1)
        .check(|call| match call.args.first() {
            Some(password) if password.is_empty() => {
                Err(Misuse::bad("password cannot be an empty string").into())
            }
            _ => Ok(()),
        })
        .banner(|call| match call.args.first() {
            Some(password) => format!("Will hash password {password}"),
            None => "Will hash provided password".to_owned(),
        }),
];

fn check_add(call: &Call<'_>) -> Result<(), Unfit> {
    if call.args.len() == 2 && call.arg(0).is_empty() {
        return Err(Misuse::bad("user cannot be an empty string").into());
    }
    if call.flag("pre-hashed-password")
        && call
            .args
            .get(1)
            .is_some_and(|hash| STANDARD.decode(hash).is_err())
    {
        return Err(Misuse::bad("Could not Base64 decode provided password hash value").into());
    }
    Ok(())
}

fn add(call: &mut Call<'_>) -> Result<Output, Failure> {
    let is_hash = call.flag("pre-hashed-password");
    let prompt = if is_hash {
        "Hashed and salted password: "
    } else {
        "Password: "
    };
    let password = call
        .arg_or_line(1, prompt)
        .ok_or_else(|| Failure::new(DATA, NO_PASSWORD))?;
    if is_hash && STANDARD.decode(&password).is_err() {
        return Err(Failure::new(
            DATA,
            "Could not Base64 decode provided password hash value",
        ));
    }
    let body = if is_hash {
        json!({"password_hash": password})
    } else {
        json!({"password": password})
    };
    let user = call.arg(0).to_owned();
    let answer = call.post(&["internal", "users", &user], body)?;
    if answer.status == 400 && answer.reason().ends_with("already exists") {
        let failure = Failure::new(SOFTWARE, format!("User \"{user}\" already exists"));
        return Err(failure.with_json(error_json(call, &format!("User {user} already exists"))));
    }
    answer.good()?;
    if call.is_quiet() && !call.is_json() {
        return Ok(Output::Done);
    }
    let json = Term::map([
        ("message", Term::text(ADDED)),
        ("node", Term::text(call.node())),
        ("status", Term::text("ok")),
    ]);
    Ok(Output::Both(ADDED.to_owned(), json))
}

fn error_json(call: &Call<'_>, message: &str) -> Term {
    Term::map([
        ("message", Term::text(message)),
        ("node", Term::text(call.node())),
        ("result", Term::text("error")),
    ])
}

fn no_such_user(call: &Call<'_>, user: &str) -> Failure {
    Failure::new(NO_USER, format!("User \"{user}\" does not exist"))
        .with_json(error_json(call, &format!("User {user} does not exists")))
}

fn delete(call: &mut Call<'_>) -> Result<Output, Failure> {
    let user = call.arg(0).to_owned();
    let answer = call.delete(&["users", &user])?;
    if answer.status == 404 {
        return Err(no_such_user(call, &user));
    }
    answer.good().map(|_| Output::Done)
}

fn change_password(call: &mut Call<'_>) -> Result<Output, Failure> {
    let password = call
        .arg_or_line(1, "Password: ")
        .ok_or_else(|| Failure::new(SOFTWARE, NO_PASSWORD))?;
    let user = call.arg(0).to_owned();
    let answer = call.put(
        &["internal", "users", &user, "password"],
        json!({"password": password}),
    )?;
    if answer.status == 404 {
        return Err(no_such_user(call, &user));
    }
    answer.good().map(|_| Output::Done)
}

fn clear_password(call: &mut Call<'_>) -> Result<Output, Failure> {
    let user = call.arg(0).to_owned();
    let answer = call.put(&["internal", "users", &user, "password"], json!({}))?;
    if answer.status == 404 {
        return Err(Failure::no_user(&user));
    }
    answer.good().map(|_| Output::Done)
}

fn authenticate(call: &mut Call<'_>) -> Result<Output, Failure> {
    let password = call
        .arg_or_line(1, "Password: ")
        .ok_or_else(|| Failure::new(SOFTWARE, NO_PASSWORD))?;
    let user = call.arg(0).to_owned();
    let body = json!({"username": user, "password": password});
    let answer = call
        .post(&["internal", "authenticate-user"], body)?
        .good()?;
    if flag(&answer.body, "authenticated") {
        return Ok(Output::Text("Success".to_owned()));
    }
    let text = format!(
        "Error: failed to authenticate user \"{user}\"\nuser '{user}' - \
         invalid credentials"
    );
    Err(Failure::new(DATA, text))
}

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let users = call.list(&["users"])?;
    let tags = |user: &Json| Term::List(texts(user, "tags").into_iter().map(Term::atom).collect());
    let row = |user: &Json| {
        vec![
            ("user".to_owned(), Term::text(text(user, "name"))),
            ("tags".to_owned(), tags(user)),
        ]
    };
    Ok(Output::List(users.iter().map(row).collect()))
}

fn set_tags(call: &mut Call<'_>) -> Result<Output, Failure> {
    let user = call.arg(0).to_owned();
    let tags = json!({"tags": call.args[1..]});
    let answer = call.put(&["internal", "users", &user, "tags"], tags)?;
    if answer.status == 404 {
        return Err(no_such_user(call, &user));
    }
    answer.good().map(|_| Output::Done)
}

fn hash(call: &mut Call<'_>) -> Result<Output, Failure> {
    let password = call
        .arg_or_line(0, "Password: ")
        .ok_or_else(|| Failure::new(SOFTWARE, NO_PASSWORD))?;
    let mut salt = [0; 4];
    getrandom::fill(&mut salt).map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
    Ok(Output::Text(STANDARD.encode(salted_hash(salt, &password))))
}

/// RabbitMQ's form: four bytes of salt, then the SHA-256 of salt and password.
fn salted_hash(salt: [u8; 4], password: &str) -> Vec<u8> {
    let digest = Sha256::new()
        .chain_update(salt)
        .chain_update(password)
        .finalize();
    salt.iter().chain(digest.iter()).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_rabbitmq() {
        // The example of RabbitMQ's documentation of passwords.
        let hash = salted_hash([0x90, 0x8d, 0xc6, 0x0a], "test12");
        assert_eq!(
            STANDARD.encode(hash),
            "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
        );
    }
}
