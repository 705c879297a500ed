//! Black-box tests of `warren server`, by client and by subject.

mod alarms;
mod amqp_tools;
mod amqplib;
mod certificates;
mod chaos;
mod client;
mod cluster;
mod counts;
mod demo;
mod endings;
mod frames;
mod haproxy;
mod http_messages;
mod lapin;
mod methods;
mod mirrors;
mod network;
mod pika;
mod reply_texts;
mod restart;
mod scale;
mod settings;
mod tls;
mod turns;
