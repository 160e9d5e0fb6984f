//! What is made of the command line's definition: man pages and completions for shells.
//!
//! How it fails: a directory that cannot be written is one line that names the file.

use crate::control::cli::Failure;
use clap::Command;
use clap_complete::Shell;
use std::fs;
use std::path::Path;

/// The completions of one shell.
pub fn completions(shell: Shell, mut command: Command) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "gatepost", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The man page of the program; with `directory` one page a subcommand, `gatepost-queue-list.1` and the like, into it.
pub fn man(command: Command, directory: Option<&Path>) -> Result<String, Failure> {
    let render = |command: Command| {
        let mut text = Vec::new();
        clap_mangen::Man::new(command).render(&mut text).map(|()| text)
    };
    let failed = |what: &dyn std::fmt::Display, e: std::io::Error| Failure::new(format!("cannot write {what}: {e}"));
    let Some(directory) = directory else {
        let page = render(command).map_err(|e| failed(&"the page", e))?;
        return Ok(String::from_utf8_lossy(&page).into_owned());
    };
    fs::create_dir_all(directory).map_err(|e| failed(&directory.display(), e))?;
    let mut written = 0;
    // `build` gives subcommands their full names.
    let mut command = command;
    command.build();
    let mut waiting = vec![(command, "gatepost".to_owned())];
    while let Some((command, name)) = waiting.pop() {
        for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
            waiting.push((sub.clone(), format!("{name}-{}", sub.get_name())));
        }
        let path = directory.join(format!("{name}.1"));
        // Clap keeps names for as long as the program runs.
        let name: &'static str = Box::leak(name.into_boxed_str());
        let page = render(command.name(name)).map_err(|e| failed(&path.display(), e))?;
        fs::write(&path, page).map_err(|e| failed(&path.display(), e))?;
        written += 1;
    }
    Ok(format!("{written} pages in {}\n", directory.display()))
}
